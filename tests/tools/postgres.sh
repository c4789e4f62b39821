#!/bin/sh
# A private Postgres cluster for tests: `postgres.sh start DIR` makes and starts one, and prints the URL of its
# administrator (the only line on standard output); `postgres.sh stop DIR` stops and removes it.
# It listens on a unix socket in DIR and on 127.0.0.1 at a free port. As root it runs as user postgres, because the
# server refuses to run as root.
set -eu

usage() {
    echo "usage: $0 start|stop DIR" >&2
    exit 64
}
[ $# -eq 2 ] || usage
case $2 in /*) dir=$2 ;; *) dir=$(pwd)/$2 ;; esac

bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
if [ -z "$bin" ]; then
    echo "$0: no Postgres server found under /usr/lib/postgresql (apt-get install postgresql)" >&2
    exit 69
fi

as_server() {
    if [ "$(id -u)" -eq 0 ]; then
        (cd / && runuser -u postgres -- "$@")
    else
        "$@"
    fi
}

free_port() {
    perl -MIO::Socket::INET -e '
        my $s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => 0, Listen => 1) or die "no free port: $!";
        print $s->sockport' 
}

start() {
    if [ -f "$dir/url" ] && as_server "$bin/pg_ctl" -D "$dir/data" status >/dev/null 2>&1; then
        cat "$dir/url"
        return
    fi
    rm -rf "$dir"
    mkdir -p "$dir"
    [ "$(id -u)" -ne 0 ] || chown postgres: "$dir"
    # fsync off: the data is thrown away, and tests make hundreds of databases.
    as_server "$bin/initdb" -D "$dir/data" -U recorder -A trust -E UTF8 --locale=C.UTF-8 --no-sync >"$dir.initdb.log" 2>&1 || {
        cat "$dir.initdb.log" >&2
        exit 70
    }
    rm -f "$dir.initdb.log"
    attempt=0
    while :; do
        port=$(free_port)
        # Another process may take the port before the server does.
        if as_server "$bin/pg_ctl" -D "$dir/data" -w -t 30 -l "$dir/log" \
            -o "-p $port -k $dir -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=300 -c shared_buffers=64MB" \
            start >/dev/null 2>&1; then
            break
        fi
        attempt=$((attempt + 1))
        [ "$attempt" -lt 5 ] || { cat "$dir/log" >&2; exit 70; }
    done
    url="postgres://recorder@127.0.0.1:$port/postgres"
    printf '%s\n' "$url" >"$dir/url"
    printf '%s\n' "$url"
}

stop() {
    if [ -d "$dir/data" ]; then
        as_server "$bin/pg_ctl" -D "$dir/data" -m immediate -w stop >/dev/null 2>&1 || true
    fi
    rm -rf "$dir"
}

case $1 in
start) start ;;
stop) stop ;;
*) usage ;;
esac
