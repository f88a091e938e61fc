#!/bin/sh
# HAProxy as Ray starts it, but for two addresses: Ray lets its metrics and statistics listen on all
# of them, and no setting changes that. BENCH_HAPROXY is the program itself.
before=
for argument; do
  [ "$before" = -f ] && sed -i -E 's/^( *bind )\*?:/\1127.0.0.1:/' "$argument"
  before=$argument
done
exec "${BENCH_HAPROXY:?}" "$@"
