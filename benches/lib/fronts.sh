# A whole edge (`ctedge up`), and the balancers that may stand in front of its nodes instead of its own. Sourced after
# servers.sh by `churn` and `smoke`, and by `operate`, which is what an event of the load tool runs.
# Needs: work, binaries, base_port.

edge=$work/edge
edge_port=$((base_port + 60)) edge_admin=127.0.0.1:$((base_port + 62)) node_base_port=$((base_port + 70))
front_port=$((base_port + 64)) peers_port=$((base_port + 65))

# write_edge NODES: the settings of the edge.
write_edge() {
    cat >"$edge/edge.toml" <<TOML
data = "$edge"
[up]
nodes = $1
node_base_port = $node_base_port
[log]
access = ""
[balancer]
http = "127.0.0.1:$edge_port"
https = ""
admin = "$edge_admin"
expose_node = true
TOML
}

# start_edge NODES: with a license for any number of peers.
start_edge() {
    rm -rf "$edge"
    mkdir -p "$edge"
    license "$edge"
    write_edge "$1"
    start edge "$server_core" "$binaries/ctedge" up --config "$edge/edge.toml"
    echo "${pid_of[edge]}" >"$edge/up.pid"
    await_nodes "$1"
}

# await_nodes COUNT: until the edge's balancer sees so many ready nodes, at most 30 s.
await_nodes() {
    for _ in $(seq 300); do
        [ "$("$binaries/ctedge" status --admin "$edge_admin" --json 2>/dev/null | jq '[.nodes[] | select(.state == "ready")] | length')" = "$1" ] && return 0
        sleep 0.1
    done
    echo "there are no $1 ready nodes:" >&2
    "$binaries/ctedge" status --admin "$edge_admin" >&2
    tail -20 "$work/edge.out" >&2
    exit 2
}

# node_addresses FIRST LAST: by their numbers.
node_addresses() {
    for number in $(seq "$1" "$2"); do echo "127.0.0.1:$((node_base_port + number - 1))"; done
}

# write_front FRONT ADDRESS…: the settings of a balancer of another maker, for these nodes.
write_front() {
    local front=$1
    shift
    case $front in
        nginx | nginx-421) write_nginx_front "$front" "$@" ;;
        haproxy-hash | haproxy-table) write_haproxy_front "$front" "$@" ;;
    esac
}

# nginx. With -421 it follows a node's answer "not mine" to the owner's address, which is in that answer.
write_nginx_front() {
    local front=$1 servers='' address on_421='' owner=''
    shift
    for address in "$@"; do servers+="server $address; "; done
    if [ "$front" = nginx-421 ]; then
        on_421='proxy_intercept_errors on; error_page 421 = @owner;'
        owner='location @owner { set $owner $upstream_http_x_ctedge_address; proxy_pass http://$owner; include proxy.conf; }'
    fi
    cat >"$work/front/proxy.conf" <<'CONF'
proxy_http_version 1.1; proxy_read_timeout 3600s; proxy_send_timeout 3600s;
proxy_set_header Host $host; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection $connection_upgrade;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto $scheme;
CONF
    cat >"$work/front/nginx.conf" <<CONF
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid $work/front/nginx.pid; error_log $work/front/nginx.log warn;
events { worker_connections 10000; }
http {
    access_log off; client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3;
    uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
    map \$http_upgrade \$connection_upgrade { default upgrade; '' ''; }
    upstream nodes { hash \$http_ctstickiness consistent; $servers keepalive 32; }
    server {
        listen 127.0.0.1:$front_port backlog=4096;
        location / { proxy_pass http://nodes; $on_421 include proxy.conf; }
        $owner
    }
}
CONF
}

# HAProxy. The table is taught by the answers of the nodes: an answer "not mine" is not learned, so that a client that comes
# again is tried at the next node. A reload of HAProxy keeps the table, by `peers`.
write_haproxy_front() {
    local front=$1 servers='' address number=0 pinning peers=''
    shift
    for address in "$@"; do
        number=$((number + 1))
        servers+="    server node-${address##*:} $address check inter 500ms"$'\n'
    done
    if [ "$front" = haproxy-table ]; then
        peers="peers edges"$'\n'"    peer here 127.0.0.1:$peers_port"
        pinning='    balance roundrobin
    stick-table type string len 128 size 100k expire 1h peers edges
    http-request set-var(txn.key) req.hdr(ctstickiness)
    stick match req.hdr(ctstickiness)
    stick store-response var(txn.key) unless { status 421 }'
    else
        pinning='    balance hdr(ctstickiness)
    hash-type consistent'
    fi
    cat >"$work/front/haproxy.cfg" <<CONF
global
    nbthread 1
    maxconn 9000
    localpeer here
    stats socket $work/front/haproxy.sock level admin
defaults
    mode http
    option http-keep-alive
    option forwardfor
    option redispatch 1
    retries 3
    timeout connect 2s
    timeout client 75s
    timeout server 60s
    timeout tunnel 1h
$peers
frontend public
    bind 127.0.0.1:$front_port
    default_backend nodes
backend nodes
$pinning
$servers
CONF
}

# start_front FRONT NODES: sets `url` to where clients reach the nodes.
start_front() {
    local front=$1 nodes=$2
    url=http://127.0.0.1:$front_port
    mkdir -p "$work/front"
    # shellcheck disable=SC2046 # the addresses are words
    write_front "$front" $(node_addresses 1 "$nodes")
    case $front in
        ctedge) url=http://127.0.0.1:$edge_port ;;
        # The paths are given in full because a daemon's PATH may lack them.
        nginx*) start "$front" "$server_core" "$(command -v nginx || echo /usr/sbin/nginx)" -p "$work/front" -c "$work/front/nginx.conf" ;;
        haproxy*) start "$front" "$server_core" "$(command -v haproxy || echo /usr/sbin/haproxy)" -W -db -f "$work/front/haproxy.cfg" ;;
    esac
    [ "$front" = ctedge ] || await "$front" "$url/api/meta"
    echo "${pid_of[$front]:-}" >"$work/front.pid"
}

# reload_front FRONT ADDRESS…: takes other nodes without cutting a tunnel; those stay in the process before.
reload_front() {
    local front=$1 pid
    [ "$front" = ctedge ] && return
    pid=$(cat "$work/front.pid")
    write_front "$@"
    case $front in
        nginx*) kill -HUP "$pid" ;;
        haproxy*) kill -USR2 "$pid" ;;
    esac
    await_reload "$front"
}

# Until a process that was begun by the reload has taken over, at most 5 s.
await_reload() {
    local before=$edge/workers now
    for _ in $(seq 50); do
        now=$(pgrep -P "$(cat "$work/front.pid")" | sort -n | tail -1)
        if [ -n "$now" ] && [ "$now" != "$(cat "$before" 2>/dev/null)" ] && curl -s -o /dev/null --max-time 1 "http://127.0.0.1:$front_port/api/meta"; then
            echo "$now" >"$before"
            return 0
        fi
        sleep 0.1
    done
    echo "$1 has not reloaded" >&2
    return 1
}

# stop_front FRONT and stop_edge: in order, because the next one takes the same ports.
stop_front() {
    [ "$1" = ctedge ] && return
    kill "${pid_of[$1]}"
    wait "${pid_of[$1]}" 2>/dev/null
}

stop_edge() {
    kill "${pid_of[edge]}"
    wait "${pid_of[edge]}" 2>/dev/null
}
