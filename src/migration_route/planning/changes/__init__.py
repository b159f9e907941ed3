"""What the operations of a plan change in the database."""
