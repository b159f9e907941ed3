"""Which findings are about the code that a migration runs?"""
