"""Which findings are about going back, and about what has no way back?"""
