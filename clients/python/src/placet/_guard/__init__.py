"""What a guard does besides asking: decisions given, reports made.

Internal, without any promise of stability: anything here may change with any release.
"""
