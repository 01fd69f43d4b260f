#!/bin/sh
# One Redis server: alone on REDIS_PORT, or with REDIS_BUS_PORT as a node of the cluster.
# The configuration is the lab's own (lablib/lab/src/service/redis.rs and redis_cluster.rs). It goes through standard
# input, so that the password stands in no process list.
set -eu

configuration() {
    cat <<CONFIG
port $REDIS_PORT
requirepass $REDISCLI_AUTH
masterauth $REDISCLI_AUTH
bind 0.0.0.0
protected-mode yes
daemonize no
supervised no
save ""
appendonly no
tcp-backlog 511
tcp-keepalive 300
timeout 0
databases 16
maxclients 10000
maxmemory 0
maxmemory-policy noeviction
hz 10
loglevel notice
logfile ""
always-show-logo no
enable-debug-command local
repl-diskless-sync yes
repl-diskless-sync-delay 0
CONFIG
    [ -n "${REDIS_BUS_PORT:-}" ] || return 0
    # A redirected client is told an address of the node. 127.0.0.1 and a port that is published under its own number are
    # right for the nodes themselves, for this machine and for a container that shares the nodes' network.
    cat <<CONFIG
cluster-enabled yes
cluster-config-file nodes.conf
cluster-announce-ip 127.0.0.1
cluster-port $REDIS_BUS_PORT
cluster-node-timeout 1500
cluster-require-full-coverage yes
cluster-allow-replica-migration no
cluster-replica-validity-factor 10
CONFIG
}

exec redis-server - <<CONFIG
$(configuration)
CONFIG
