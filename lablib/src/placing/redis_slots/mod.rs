//! Redis Cluster: slots, hot keys, moving slots, and what a failover loses.
