"""Which findings are about others who have to wait while a step is at work?"""
