"""The pytest plugin: the marker and the fixtures that `stepwave.testing` documents."""
