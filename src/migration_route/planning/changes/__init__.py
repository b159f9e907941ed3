"""What does a plan change about what is in the database?"""
