"""What may a machine show, and how are its entries in the settings read?

No Django here: the remote client makes tokens as well.
"""
