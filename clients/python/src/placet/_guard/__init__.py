"""What a guard does besides asking: decisions given, reports made.

Internal: no promise is made about anything here.
"""
