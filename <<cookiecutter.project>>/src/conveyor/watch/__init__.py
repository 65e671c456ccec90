"""Is the live model still as good as the gate found it?"""
