"""Which findings are about a step that changes data and schema in one go?"""
