#!/bin/sh
# The cluster as a whole: `redis-cluster.sh` makes six nodes one cluster, once, then tells of each change in it;
# `redis-cluster.sh healthy` is its health check. REDIS_PORTS lists the nodes' ports, masters first.
set -eu
host=127.0.0.1

# The cluster's own account of itself, from the first node that answers.
ask() {
    for port in $REDIS_PORTS; do
        if timeout 2 redis-cli -h "$host" -p "$port" "$@" 2>/dev/null; then
            return 0
        fi
    done
    return 1
}

fact() {
    ask cluster info | tr -d '\r' | sed -n "s/^$1://p"
}

# "port role state", a line for each node.
nodes() {
    ask cluster nodes | awk '{
        split($2, address, /[:@]/)
        role = $3 ~ /master/ ? "master" : "replica"
        print address[2], role, ($3 ~ /fail/ ? "failed" : $8)
    }' | sort
}

healthy() {
    [ "$(fact cluster_state)" = ok ] && [ "$(fact cluster_slots_ok)" = 16384 ] || return 1
    linked=0
    for port in $REDIS_PORTS; do
        replication=$(timeout 2 redis-cli -h "$host" -p "$port" info replication) || return 1
        case $replication in
            *role:slave*master_link_status:up*) linked=$((linked + 1)) ;;
        esac
    done
    [ "$linked" -eq 3 ]
}

if [ "${1:-}" = healthy ]; then
    healthy
    exit
fi

if [ "$(fact cluster_known_nodes)" = 1 ]; then
    addresses=
    for port in $REDIS_PORTS; do
        addresses="$addresses $host:$port"
    done
    # shellcheck disable=SC2086 # a list of words
    redis-cli --cluster create $addresses --cluster-replicas 1 --cluster-yes || {
        echo "The six nodes would not become one cluster. From empty volumes they do: docker compose down -v, then up again." >&2
        exit 1
    }
fi

seen=
while :; do
    now=$(nodes) || now="no node answers"
    if [ "$now" != "$seen" ]; then
        printf '%s\n%s\n' "$(date -u +%T)" "$now"
        seen=$now
    fi
    sleep 1
done
