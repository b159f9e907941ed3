"""Which findings are about rows that may stand against a step?"""
