"""What would a statement do to the tables of PostgreSQL?"""
