# Sourced by the scripts beside it. It decides two things for all of them: which user servers and tests run
# as, and in which directory they live. PostgreSQL refuses to run as root, so root lends its work to the user
# "postgres" (or "nobody"); anybody else runs everything as himself.
#
# Sets: tools, repo, run_user. Defines: die, base_dir, make_dir, as_user, stop_cluster, stage_tests.

set -eu
umask 022

tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
repo=$(cd "$tools/../.." && pwd -P)

# A caller's connection settings would leak into tests.
for name in $(compgen -e PG || true); do
	[ "$name" = PG_CONFIG ] || unset "$name"
done
export LC_ALL=C.UTF-8 PYTHONDONTWRITEBYTECODE=1

die()
{
	printf '%s: %s\n' "$(basename "$0")" "$*" >&2
	exit 1
}

if [ "$(id -u)" -ne 0 ]; then
	run_user=$(id -un)
elif id postgres >/dev/null 2>&1; then
	run_user=postgres
else
	run_user=nobody
fi

# as_user DIR COMMAND...: run COMMAND in DIR as the run user, with a home and an identity to match.
as_user()
{
	local dir=$1
	shift
	(
		if [ "$(id -u)" -ne 0 ]; then
			cd "$dir"
			exec "$@"
		fi
		cd "$dir"
		exec setpriv --reuid="$run_user" --regid="$(id -g "$run_user")" --init-groups -- \
			env HOME="$dir" USER="$run_user" LOGNAME="$run_user" "$@"
	)
}

# Where the run and demo directories hang: the repository, or a directory of its own below /var/tmp when the
# run user cannot reach the repository (a clone in /root).
base_dir()
{
	if [ "$(id -u)" -eq 0 ] && ! as_user / test -r "$repo/Makefile"; then
		printf '/var/tmp/a67-%s\n' "$(printf '%s' "$repo" | cksum | cut -d ' ' -f 1)"
	else
		printf '%s\n' "$repo"
	fi
}

# make_dir DIR: create DIR for the run user; refuse one that belongs to somebody else.
make_dir()
{
	local owner
	if [ ! -e "$1" ]; then
		mkdir -p "$1"
		[ "$(id -u)" -ne 0 ] || chown "$run_user": "$1"
	fi
	owner=$(stat -Lc %U "$1")
	[ "$owner" = "$run_user" ] || die "$1 belongs to $owner, but tests run as $run_user: remove it first"
}

# stop_cluster BINDIR DATADIR: end a server that a failed test left behind. Never fails.
stop_cluster()
{
	[ ! -f "$2/postmaster.pid" ] || as_user / "$1/pg_ctl" -s -D "$2" -m immediate -t 30 stop || true
}

# stage_tests DIR: a copy of the tests below DIR that the run user can read and that no test can damage.
stage_tests()
{
	rm -rf "$1/tree"
	mkdir -p "$1/tree/test" "$1/tree/docs/config" "$1/tree/agent"
	cp -R "$repo"/test/. "$1/tree/test/"
	cp -R "$repo"/docs/config/. "$1/tree/docs/config/"
	cp "$repo/docs/vault-client.md" "$repo"/docs/manifest.* "$1/tree/docs/"
	cp "$repo"/agent/a67-agent.{8,service} "$1/tree/agent/"
	find "$1/tree" -name __pycache__ -prune -exec rm -rf {} +
	[ "$(id -u)" -ne 0 ] || chown -R "$run_user": "$1/tree"
}
