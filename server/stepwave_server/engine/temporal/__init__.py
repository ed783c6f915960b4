"""The engine that runs on a Temporal cluster: any number of servers and hosts, and no state on their disks."""
