"""Numbers to decisions: the ratio of two arms, the verdict of an audit, protocols of evaluation."""
