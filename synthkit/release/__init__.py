"""Synthetic images that may be shared: gate, removal, and a folder that documents itself.

``gate`` decides by an audit which samples may go out, ``samples`` writes them without what tells of training subjects,
``folder`` writes the folder, and ``make`` goes from beginning to end.
"""
