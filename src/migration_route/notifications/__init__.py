"""How do people and machines hear of what happens? By messages that are tried again."""
