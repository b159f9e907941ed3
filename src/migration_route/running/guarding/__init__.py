"""How does a typed `manage.py migrate` keep to the rules of the route?"""
