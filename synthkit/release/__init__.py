"""Synthetic images that may be shared: gate, removal, and a folder that documents itself.

``gate`` decides by an audit which samples may go out, ``samples`` writes them without what tells of training subjects,
``folder`` writes the folder with its ``documents`` and ``croissant`` metadata, and ``make`` goes from beginning to end.
``statement`` is what a steward signs, and what a reader checks, with the keys and envelopes of ``signing``.
"""
