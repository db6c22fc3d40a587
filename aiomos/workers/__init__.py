"""Several cores: worker processes that share out the flows, and the supervisor that keeps them.

`supervisor` starts `worker` processes, each by a `plan`; they send what their apps write as `records`, which `merging`
puts into one file; `commands` answers for all of them together.
"""
