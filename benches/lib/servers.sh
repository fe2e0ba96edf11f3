# Starts the three balancers, their backends and our node for `run` and `smoke`; stops all of them at the end.
# Sourced. Needs: work (a directory), binaries (a directory), server_core and load_core (lists for taskset).

base_port=${BASE_PORT:-24100}
backend_ports=("$base_port" $((base_port + 1)) $((base_port + 2)))
declare -A http_port=([ctedge]=$((base_port + 10)) [haproxy]=$((base_port + 20)) [nginx]=$((base_port + 30)))
declare -A https_port=([ctedge]=$((base_port + 11)) [haproxy]=$((base_port + 21)) [nginx]=$((base_port + 31)))
declare -A pid_of
started=()

stop_all() {
    for pid in "${started[@]}"; do kill "$pid" 2>/dev/null; done
    for pid in "${started[@]}"; do wait "$pid" 2>/dev/null; done
}
trap stop_all EXIT

# start NAME CORES COMMAND…
start() {
    local name=$1 cores=$2
    shift 2
    taskset -c "$cores" "$@" >"$work/$name.out" 2>&1 &
    pid_of[$name]=$!
    started+=("$!")
}

# await NAME URL: until it answers, at most 20 s.
await() {
    local name=$1 url=$2
    for _ in $(seq 200); do
        curl -sk -o /dev/null --max-time 1 "$url" && return 0
        kill -0 "${pid_of[$name]}" 2>/dev/null || break
        sleep 0.1
    done
    echo "$name does not answer at $url:" >&2
    tail -20 "$work/$name.out" >&2
    exit 2
}

make_certificate() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout "$work/key.pem" -out "$work/chain.pem" 2>/dev/null
    cat "$work/chain.pem" "$work/key.pem" >"$work/both.pem"
    chmod 600 "$work"/*.pem
}

# A license of our own for the edge whose data is in DIRECTORY, because an evaluation has no more than 25 seats.
license() {
    if [ ! -e "$work/license.key" ]; then
        CTEDGE_LICENSE_PUBLIC_KEY=$("$binaries/ctedge" license keygen --json --out "$work/license.key" | jq -r .public_key)
        export CTEDGE_LICENSE_PUBLIC_KEY
    fi
    "$binaries/ctedge" license sign --key "$work/license.key" --licensee 'Load tests' --connections 100000 \
        --expiration 2999/12/31 --out "$1/licensing.properties" >/dev/null
}

start_backends() {
    local listen=()
    for port in "${backend_ports[@]}"; do listen+=(--listen "127.0.0.1:$port"); done
    start backends "$load_core" "$binaries/ctedge-load" backend "${listen[@]}"
    await backends "http://127.0.0.1:${backend_ports[2]}/"
}

start_ctedge() {
    head -c 48 /dev/urandom | base64 -w 0 >"$work/cluster.secret"
    chmod 600 "$work/cluster.secret"
    cat >"$work/ctedge.toml" <<EOF
data = "$work"
[log]
access = ""
[balancer]
http = "127.0.0.1:${http_port[ctedge]}"
https = "127.0.0.1:${https_port[ctedge]}"
admin = "127.0.0.1:$((base_port + 12))"
expose_node = true
threads = 1
[[nodes]]
id = "backend-1"
address = "127.0.0.1:${backend_ports[0]}"
[[nodes]]
id = "backend-2"
address = "127.0.0.1:${backend_ports[1]}"
[[nodes]]
id = "backend-3"
address = "127.0.0.1:${backend_ports[2]}"
[[certificates]]
chain = "$work/chain.pem"
key = "$work/key.pem"
EOF
    start ctedge "$server_core" "$binaries/ctedge" balancer --config "$work/ctedge.toml"
    await ctedge "http://127.0.0.1:${http_port[ctedge]}/"
}

start_nginx() {
    cat >"$work/nginx.conf" <<EOF
daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid $work/nginx.pid; error_log $work/nginx.log warn;
events { worker_connections 10000; }
http {
    access_log off; client_body_temp_path $work/t1; proxy_temp_path $work/t2; fastcgi_temp_path $work/t3;
    uwsgi_temp_path $work/t4; scgi_temp_path $work/t5;
    keepalive_requests 100000000; keepalive_timeout 75s;
    map \$http_upgrade \$connection_upgrade { default upgrade; '' ''; }
    upstream nodes {
        hash \$http_ctstickiness consistent;
        server 127.0.0.1:${backend_ports[0]}; server 127.0.0.1:${backend_ports[1]}; server 127.0.0.1:${backend_ports[2]};
        keepalive 128; keepalive_requests 100000000;
    }
    server {
        listen 127.0.0.1:${http_port[nginx]} backlog=4096;
        listen 127.0.0.1:${https_port[nginx]} ssl http2 backlog=4096;
        http2_max_requests 100000000;
        ssl_certificate $work/chain.pem; ssl_certificate_key $work/key.pem; ssl_protocols TLSv1.2 TLSv1.3;
        location / {
            proxy_pass http://nodes; proxy_http_version 1.1; proxy_read_timeout 3600s;
            proxy_set_header Host \$host; proxy_set_header Upgrade \$http_upgrade; proxy_set_header Connection \$connection_upgrade;
            proxy_set_header X-Forwarded-For \$proxy_add_x_forwarded_for; proxy_set_header X-Forwarded-Proto \$scheme;
        }
    }
}
EOF
    # The path is given in full because a daemon's PATH may lack it.
    start nginx "$server_core" "$(command -v nginx || echo /usr/sbin/nginx)" -p "$work" -c "$work/nginx.conf"
    await nginx "http://127.0.0.1:${http_port[nginx]}/"
}

start_haproxy() {
    cat >"$work/haproxy.cfg" <<EOF
global
    nbthread 1
    maxconn 9000
    ssl-default-bind-options ssl-min-ver TLSv1.2
defaults
    mode http
    option http-keep-alive
    option forwardfor
    http-reuse always
    timeout connect 2s
    timeout client 75s
    timeout server 60s
    timeout tunnel 1h
frontend public
    bind 127.0.0.1:${http_port[haproxy]}
    bind 127.0.0.1:${https_port[haproxy]} ssl crt $work/both.pem alpn h2,http/1.1
    default_backend nodes
backend nodes
    balance hdr(ctstickiness)
    hash-type consistent
    server one 127.0.0.1:${backend_ports[0]}
    server two 127.0.0.1:${backend_ports[1]}
    server three 127.0.0.1:${backend_ports[2]}
EOF
    start haproxy "$server_core" "$(command -v haproxy || echo /usr/sbin/haproxy)" -db -f "$work/haproxy.cfg"
    await haproxy "http://127.0.0.1:${http_port[haproxy]}/"
}

# One node of ours, without a balancer.
start_node() {
    mkdir -p "$work/node"
    head -c 48 /dev/urandom | base64 -w 0 >"$work/node/cluster.secret"
    chmod 600 "$work/node/cluster.secret"
    license "$work/node"
    cat >"$work/node.toml" <<EOF
data = "$work/node"
[balancer]
https = ""
[[nodes]]
id = "node-1"
address = "127.0.0.1:$((base_port + 40))"
EOF
    start node "$server_core" "$binaries/ctedge" node --config "$work/node.toml" --id node-1
    await node "http://127.0.0.1:$((base_port + 40))/api/meta"
}

# load NAME-OF-SERVER SCENARIO…: a run that reads what that server costs, as JSON on stdout.
load() {
    local server=$1
    shift
    timeout 600 taskset -c "$load_core" "$binaries/ctedge-load" "$@" --pid-tree "${pid_of[$server]}" --json
}
