"""Which findings are about the running release, which meets the new schema?"""
