"""Which findings are about data and things that a step takes away?"""
