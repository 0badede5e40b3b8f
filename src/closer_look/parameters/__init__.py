"""Types of all parameters: a misspelt or impossible value stops a run at its start.

Kedro validates parameters against these models before the first node runs, and also when it only
shows a graph. So the models check nothing about the machine (a folder, a GPU, a package); the first
nodes of a run do. The values are in ``conf/<environment>/parameters*.yml``.
"""
