"""Which findings are about the database as it is, and about what the plan leaves out?"""
