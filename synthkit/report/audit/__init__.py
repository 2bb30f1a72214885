"""The audit's section of a report, and the page that an audit leaves in its run folder."""
