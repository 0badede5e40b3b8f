"""Every parameter of the project, typed: a misspelt or impossible one stops a run at its start.

Kedro validates the nodes' parameters against these models before the first node runs, and also
where a graph is only looked at: what a machine must have (a folder, a GPU, a package) is checked by
the first nodes. The values are in ``conf/<environment>/parameters*.yml``.
"""
