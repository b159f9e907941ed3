"""Which findings are about steps that may stay half done?"""
