"""Which findings are about the two sides of a deploy?"""
