"""On which side of a deploy does each step belong?"""
