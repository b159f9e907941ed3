"""Does a run on the route leave behind what Django itself would have left?"""
