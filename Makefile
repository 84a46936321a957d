# Builds, tests and shows Automator67: the extension (through PGXS), the node agent, the install scripts.
#
# The file is read in two passes. The outer pass needs no PostgreSQL at all: it knows the targets that people
# type and builds the agent. For the extension it calls itself with EXTENSION_PASS=1, and that inner pass is
# a plain PGXS makefile. (PGXS defines `check` and `install` itself, which is why the passes are apart.)
#
# Nothing here touches the system's PostgreSQL except `install`. Tests and the demo use a private copy of the
# server below build/run (or /var/tmp when root's checkout is closed to others): see test/tools/run-dir.

A67_VERSION := 0.1.0
PG_CONFIG ?= pg_config
ifeq ($(origin CC),default)
CC := gcc
endif

# ---- what goes into the install script, in this order ----------------------------------------------------

# Run once, when the extension is created.
SQL_SCHEMA := $(addprefix sql/schema/, \
	base.sql \
	identity.sql \
	vault.sql \
	provider.sql \
	node.sql \
	monitor.sql \
	secret.sql \
	deployment.sql \
	rollout.sql \
	cron.sql \
	traffic.sql \
	log.sql \
	event.sql \
	metric.sql \
	channel.sql \
	oauth.sql \
	session.sql \
	database.sql \
)
# Run at creation and again at every upgrade.
SQL_API := $(addprefix sql/api/, \
	core.sql \
	event.sql \
	feed.sql \
	audit.sql \
	vault.sql \
	identity.sql \
	auth.sql \
	provider.sql \
	node.sql \
	select.sql \
	usage.sql \
	metric.sql \
	package.sql \
	package_build.sql \
	secret.sql \
	manifest_schema.sql \
	manifest_check.sql \
	manifest.sql \
	deployment.sql \
	rollout_command.sql \
	cron.sql \
	log.sql \
	ingress.sql \
	traffic.sql \
	doubt.sql \
	monitor.sql \
	restart.sql \
	drain.sql \
	balance.sql \
	rollout.sql \
	reconciler.sql \
	channel.sql \
	notifier.sql \
	oauth.sql \
	credential.sql \
	vault_item.sql \
	view.sql \
	registry.sql \
	dns.sql \
	resource.sql \
	explain.sql \
	router.sql \
	database.sql \
	database_table.sql \
	database_import.sql \
	database_ddl.sql \
	database_role.sql \
	database_query.sql \
	openapi.sql \
	grant.sql \
)

# ---- C sources -------------------------------------------------------------------------------------------

CORE_SRCS  := $(sort $(wildcard src/core/*.c src/core/*/*.c))
LIB_SRCS   := $(CORE_SRCS) $(sort $(wildcard \
	$(foreach dir,platform crypto registry net router storage,src/$(dir)/*.c src/$(dir)/*/*.c) \
	bgworker/*.c bgworker/*/*.c src/init.c))
# The agent serves no WebSockets: agent/no_websocket.c stands for these two and their library.
AGENT_SRCS := $(filter-out src/core/http/ws.c src/core/http/upgrade.c,$(CORE_SRCS)) \
	$(sort $(wildcard agent/*.c agent/*/*.c))
HDRS := $(sort $(wildcard $(foreach dir,src bgworker agent,$(dir)/*.h $(dir)/*/*.h $(dir)/*/*/*.h)))

WARNINGS := -std=gnu11 -Wall -Wextra -Wshadow -Wno-unused-parameter -Wdeclaration-after-statement
ifneq ($(CI),)
WARNINGS += -Werror
endif

# Commands are shown in short; V=1 shows them whole.
ifeq ($(V),)
Q := @
say = @printf '  %-3s %s\n' $(1) $(2)
endif

# A file that changes only when the text in $(2) does, for rules to depend on: objects follow their flags.
define remember
$(1): FORCE
	@mkdir -p $$(@D); echo '$(2)' | cmp -s - $$@ || echo '$(2)' >$$@
endef

.PHONY: FORCE
.DELETE_ON_ERROR:

ifdef EXTENSION_PASS
# ==========================================================================================================
# Inner pass: a67.so and the SQL scripts, by PGXS.
# ==========================================================================================================

EXTENSION  := a67
MODULE_big := a67
OBJS       := $(LIB_SRCS:%.c=build/so/%.o)
UPGRADES   := $(notdir $(basename $(sort $(wildcard sql/upgrade/*.sql))))
DATA_built := build/a67--$(A67_VERSION).sql $(UPGRADES:%=build/a67--%.sql)

# The server's headers are not ours to warn about, hence -isystem. Objects of the agent live elsewhere and
# are compiled with other flags.
A67_CPPFLAGS = -Isrc -Ibgworker -DA67_VERSION='"$(A67_VERSION)"' -isystem $(includedir_server) -isystem $(includedir_internal) -isystem $(includedir)

# postgres exports json_object and friends, and jansson has functions of the same names: the archives go in
# private, and our own references are bound at link time. libarchive too is static: shared, it would bring
# nine libraries (xml2 and ICU among them) into every backend that preloads the module.
SHLIB_LINK = -Wl,--exclude-libs,ALL -Wl,-Bsymbolic -Wl,--version-script=build/so/exports.map \
	$(shell $(CC) -print-file-name=libjansson.a) $(shell $(CC) -print-file-name=libarchive.a) -lsodium -lcurl -lssl -lcrypto -lwslay -lpq -lz -lm

# No LLVM bitcode: nothing here is worth inlining into a query, and it would double the build.
override with_llvm := no

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

# The version stands for the paths: installing into the private copy must not compile everything again.
$(eval $(call remember,build/so/.flags,$(VERSION) $(CC) $(CFLAGS) $(WARNINGS) $(A67_VERSION)))

$(OBJS): build/so/%.o: %.c build/so/.flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(CFLAGS) $(WARNINGS) $(A67_CPPFLAGS) $(CPPFLAGS) -MMD -MP -c -o $@ $<

-include $(wildcard $(OBJS:.o=.d))

# What the server may look up by name; all else stays private to the library.
build/so/exports.map: Makefile
	@mkdir -p $(@D)
	@echo '{ global: Pg_magic_func; _PG_init; pg_finfo_*; a67_sql_*; a67_*_main; local: *; };' >$@

$(shlib): build/so/exports.map

# $(call script,OUTPUT,COMMAND): the header, which keeps psql from loading the file as a plain script, then
# the modules named as prerequisites.
define script
@mkdir -p $(@D)
@{ printf '%s\n' '\echo Use "$(1)" to load this file. \quit'; for module in $(2); do \
	printf '\n-- %s\n\n' "$$module"; cat "$$module" || exit 1; done; } >$@
endef

build/a67--$(A67_VERSION).sql: $(SQL_SCHEMA) $(SQL_API) Makefile
	$(call script,CREATE EXTENSION a67,$(SQL_SCHEMA) $(SQL_API))

build/a67--%--$(A67_VERSION).sql: sql/upgrade/%--$(A67_VERSION).sql $(SQL_API) Makefile
	$(call script,ALTER EXTENSION a67 UPDATE,$< $(SQL_API))

# Version 0.0.1 never shipped: it is the first schema module alone, frozen, so that the upgrade gate has a
# version to start from before there is a second release. Its delta is therefore all the other modules.
build/test/a67--0.0.1--$(A67_VERSION).sql: $(SQL_SCHEMA) $(SQL_API) Makefile
	$(call script,ALTER EXTENSION a67 UPDATE,$(wordlist 2,999,$(SQL_SCHEMA)) $(SQL_API))

.PHONY: scripts upgrade-scripts
scripts: $(DATA_built)

# Everything the upgrade gate needs beside a normal installation.
upgrade-scripts: build/test/a67--0.0.1--$(A67_VERSION).sql
	$(INSTALL_DATA) $^ $(wildcard test/release/a67--*.sql) '$(DESTDIR)$(datadir)/extension/'

else
# ==========================================================================================================
# Outer pass: the targets.
# ==========================================================================================================

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all

PYTHON := /usr/bin/python3
JOBS ?= $(shell nproc)
TOOLS := test/tools
INNER = $(MAKE) --no-print-directory EXTENSION_PASS=1


.PHONY: manifest-schema all lib agent agent-static install install-agent uninstall help deps server clean dist format lint lint-self ack asan fuzz fuzz-router bench \
	coverage demo demo-stop check check-unit check-fuzz check-sql check-iso check-upgrade check-e2e

## Build
all: lib agent ## the extension, its SQL scripts and the agent (the default)

lib: pg-found ## the extension and its SQL scripts only
	@+$(INNER) all

.PHONY: pg-found
pg-found:
	@command -v "$(PG_CONFIG)" >/dev/null && test -f "$$($(PG_CONFIG) --pgxs)" || \
		{ echo 'make: no PostgreSQL server headers found by "$(PG_CONFIG)": run "make deps" first' >&2; exit 1; }

install: all install-agent ## the extension into the PostgreSQL that PG_CONFIG names, and the agent
	@+$(INNER) install

AGENT_PREFIX ?= /usr/local
AGENT_ROOT = $(DESTDIR)$(AGENT_PREFIX)
install-agent: agent ## the agent alone, with its manual page and systemd unit, below AGENT_PREFIX=/usr/local
	install -D -m 755 build/agent/a67-agent '$(AGENT_ROOT)/bin/a67-agent'
	install -D -m 644 agent/a67-agent.8 '$(AGENT_ROOT)/share/man/man8/a67-agent.8'
	@mkdir -p '$(AGENT_ROOT)/lib/systemd/system'
	sed 's|/usr/bin/a67-agent|$(AGENT_PREFIX)/bin/a67-agent|' agent/a67-agent.service \
		>'$(AGENT_ROOT)/lib/systemd/system/a67-agent.service'

uninstall: pg-found ## take back what install put there
	@+$(INNER) uninstall
	rm -f '$(AGENT_ROOT)/bin/a67-agent' '$(AGENT_ROOT)/share/man/man8/a67-agent.8' \
		'$(AGENT_ROOT)/lib/systemd/system/a67-agent.service'

deps: ## the Debian packages needed to build, test and lint (installs only what is missing)
	@$(TOOLS)/deps

manifest-schema: ## docs/manifest.schema.json anew from its source in sql/api
	@$(PYTHON) $(TOOLS)/manifest_schema.py

clean: ## remove everything built, and the private server (not a running demo)
	@$(TOOLS)/run-dir --remove
	rm -rf build a67.so

dist: lib ## a67-VERSION.tar.gz from the last commit, with the generated SQL
	@$(TOOLS)/dist $(A67_VERSION)

# ---- the agent ---------------------------------------------------------------------------------------------

AGENT_CFLAGS := -g -Os -fno-strict-aliasing -fwrapv -fstack-protector-strong -fPIE \
	-ffunction-sections -fdata-sections -D_GNU_SOURCE -D_FORTIFY_SOURCE=2
AGENT_LDFLAGS := -pie -Wl,--gc-sections -Wl,--as-needed -Wl,-z,relro -Wl,-z,now
# libarchive and jansson statically: shared, they bring a dozen libraries and 2.5 MB into every agent.
AGENT_LIBS := -Wl,-Bstatic -larchive -ljansson -Wl,-Bdynamic -lz -lsodium -lssl -lcrypto -lm
AGENT_STATIC_LIBS := -larchive -ljansson -lsodium -lssl -lcrypto -lz -lm
ASAN_CFLAGS := -g -O1 -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined \
	-D_GNU_SOURCE
# -iquote: a header of ours is never found in place of a system header of the same name.
AGENT_CPPFLAGS := -iquote src -iquote agent -DA67_VERSION='"$(A67_VERSION)"'

AGENT_OBJS := $(AGENT_SRCS:%.c=build/agent/%.o)
ASAN_OBJS  := $(AGENT_SRCS:%.c=build/asan/%.o)

$(eval $(call remember,build/agent/.flags,$(CC) $(AGENT_CFLAGS) $(AGENT_CPPFLAGS) $(WARNINGS)))
$(eval $(call remember,build/asan/.flags,$(CC) $(ASAN_CFLAGS) $(AGENT_CPPFLAGS) $(WARNINGS)))

$(AGENT_OBJS): build/agent/%.o: %.c build/agent/.flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(AGENT_CFLAGS) $(WARNINGS) $(AGENT_CPPFLAGS) -MMD -MP -c -o $@ $<

$(ASAN_OBJS): build/asan/%.o: %.c build/asan/.flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ASAN_CFLAGS) $(WARNINGS) $(AGENT_CPPFLAGS) -MMD -MP -c -o $@ $<

-include $(wildcard $(AGENT_OBJS:.o=.d) $(ASAN_OBJS:.o=.d))

build/agent/a67-agent.debug: $(AGENT_OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) $(AGENT_LDFLAGS) -o $@ $^ $(AGENT_LIBS)

build/agent/a67-agent: build/agent/a67-agent.debug
	@strip -o $@ $<

build/asan/a67-agent: $(ASAN_OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) -fsanitize=address,undefined -Wl,--as-needed -o $@ $^ $(AGENT_LIBS)

agent: build/agent/a67-agent ## the node agent only (build/agent/a67-agent)

# One file that needs no library of its machine, not even libc. The linker warns of name resolution: hosts
# and DNS are inside, other sources of /etc/nsswitch.conf need this very glibc.
build/agent/a67-agent-static: $(AGENT_OBJS)
	$(call say,LD,$@)
	$(Q)$(CC) $(filter-out -pie,$(AGENT_LDFLAGS)) -static-pie -s -o $@ $^ $(AGENT_STATIC_LIBS) 2>$@.log || { cat $@.log; exit 1; }
	@rm $@.log; $@ --version >/dev/null

agent-static: build/agent/a67-agent-static ## the agent as one static file (build/agent/a67-agent-static)

# ---- the private server ------------------------------------------------------------------------------------

# $(call private_server,PREFIX): a copy of the server's trees under PREFIX with this build installed into it.
define private_server
prefix=$(1); $(TOOLS)/server-copy "$$prefix" "$(PG_CONFIG)"; \
$(MAKE) --no-print-directory -s EXTENSION_PASS=1 install PG_CONFIG="$$prefix/bin/pg_config" DESTDIR= >/dev/null; \
install -m 755 build/agent/a67-agent $(wildcard build/agent/a67-agent-static) "$$prefix/bin"
endef

server: all agent-static ## a private copy of the server with this build installed (tests run against it)
	@run=$$($(TOOLS)/run-dir); $(call private_server,"$$run/pg")

## Test
check: ## everything below, from deps on; under half an hour on two cores
	@$(TOOLS)/check deps all server lint check-unit check-fuzz check-sql check-iso check-upgrade check-e2e

check-unit: ## C unit tests of src/core and the agent's parts under ASan and UBSan
	@$(TOOLS)/if-any unit test/unit/Makefile $(MAKE) --no-print-directory -C test/unit check BUILD="$(CURDIR)/build/unit" CC="$(CC)"

check-fuzz: ## replay the fuzz corpora
	@$(TOOLS)/if-any fuzz test/fuzz/Makefile $(MAKE) --no-print-directory -C test/fuzz replay BUILD="$(CURDIR)/build/fuzz" CC=clang

check-sql: server ## pgTAP tests through pg_regress (TESTS="a b" for some of them)
	@$(TOOLS)/regress sql $(TESTS)

check-iso: server ## isolation tests: one per lock or fence (TESTS="a b" for some of them)
	@$(TOOLS)/regress iso $(TESTS)

check-upgrade: server ## an upgraded database has the same catalog as a fresh one
	@+run=$$($(TOOLS)/run-dir); $(INNER) -s upgrade-scripts PG_CONFIG="$$run/pg/bin/pg_config" DESTDIR= >/dev/null
	@$(TOOLS)/upgrade $(A67_VERSION)

E2E ?= test/e2e
PYTEST_ARGS ?=
check-e2e: server ## cluster, listener and agents together, by pytest (E2E=test/e2e/test_x.py, PYTEST_ARGS="-k x")
	@$(TOOLS)/e2e $(E2E) $(PYTEST_ARGS)

ack: ## accept the last results of check-sql and check-iso as expected, if their plans are complete
	@$(TOOLS)/ack

asan: build/asan/a67-agent server ## unit tests, and the e2e tests with the agent under ASan and UBSan
	@$(MAKE) --no-print-directory check-unit
	@A67_AGENT="$(CURDIR)/build/asan/a67-agent" $(TOOLS)/e2e $(E2E) $(PYTEST_ARGS)

FUZZ_SECONDS ?= 60
fuzz: ## run the fuzzers (FUZZ_SECONDS=60 each)
	@$(TOOLS)/if-any fuzz test/fuzz/Makefile $(MAKE) --no-print-directory -C test/fuzz run BUILD="$(CURDIR)/build/fuzz" CC=clang SECONDS_EACH=$(FUZZ_SECONDS)

fuzz-router: ## random statements on a virtual and on a plain database, compared (N=2000 SEED=…)
	@$(MAKE) --no-print-directory server >&2
	@N="$(N)" SEED="$(SEED)" $(TOOLS)/bench test/fuzz/router.py

coverage: ## line coverage of src/core by its unit tests
	@$(TOOLS)/if-any coverage test/unit/Makefile $(MAKE) --no-print-directory -C test/unit check BUILD="$(CURDIR)/build/coverage" CC="$(CC)" SANITIZE="--coverage -O0" >/dev/null
	@$(PYTHON) $(TOOLS)/coverage.py build/coverage src/core

# ---- benchmarks: JSON lines on standard output, all else on standard error ---------------------------------

# load.py is what they share; beats, selection and detection are parts of registry.py, lost, placement and start of deploy.py.
BENCHES := $(patsubst test/bench/%.py,bench-%,$(filter-out $(foreach part,load beats selection detection lost placement start router_peers,%/$(part).py),$(sort $(wildcard test/bench/*.py))))
.PHONY: $(BENCHES)
$(BENCHES): bench-%:
	@$(MAKE) --no-print-directory server >&2
	@$(TOOLS)/bench test/bench/$*.py

bench: ## every benchmark in test/bench: one JSON object a line (bench-NAME for one)
	@for bench in $(BENCHES); do $(MAKE) --no-print-directory "$$bench"; done
	@test -n "$(BENCHES)" || echo 'bench: no benchmarks in test/bench' >&2

## Style
FORMATTED := $(wildcard $(foreach dir,src bgworker agent test/unit test/fuzz,$(foreach ext,c h,$(dir)/*.$(ext) $(dir)/*/*.$(ext) $(dir)/*/*/*.$(ext))))

format: ## apply .clang-format to all C sources
	@$(if $(FORMATTED),clang-format -i $(FORMATTED),echo 'format: no C sources')

lint: pg-found lint-self ## clang-format, clang-tidy, cppcheck and the rules of test/tools/lint.py
	@$(TOOLS)/if-any clang-format "$(firstword $(FORMATTED))" clang-format --dry-run -Werror $(FORMATTED)
	@$(PYTHON) $(TOOLS)/lint.py
	@$(PYTHON) $(TOOLS)/manifest_schema.py --check
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(TIDY_STAMPS)
	@$(TOOLS)/if-any cppcheck "$(firstword $(LIB_SRCS))" cppcheck --quiet --error-exitcode=1 --std=c11 --inline-suppr \
		--enable=warning,performance,portability --suppressions-list=$(TOOLS)/cppcheck.txt -j$(JOBS) -Isrc -Ibgworker \
		$(sort $(LIB_SRCS) $(AGENT_SRCS))
	@echo 'lint: clean'

lint-self: ## the linter's own tests: every rule flags a snippet made to break it
	@cd $(TOOLS) && PYTHONDONTWRITEBYTECODE=1 $(PYTHON) lint_test.py

# clang-tidy takes seconds a file: a stamp each, so that only what changed is read again.
TIDY_STAMPS = $(patsubst %.c,build/tidy/%.ok,$(sort $(LIB_SRCS) $(AGENT_SRCS)))
build/tidy/%.ok: %.c $(HDRS) .clang-tidy
	@mkdir -p $(@D)
	@clang-tidy --quiet $< -- -std=gnu11 -D_GNU_SOURCE $(AGENT_CPPFLAGS) -Ibgworker \
		-isystem "$$($(PG_CONFIG) --includedir-server)" -isystem "$$($(PG_CONFIG) --pkgincludedir)/internal" -isystem "$$($(PG_CONFIG) --includedir)" 2>$@.log \
		|| { cat $@.log; exit 1; }
	@touch $@

## Demo
demo: deps ## bring up a cloud of four agents, deploy and update an app under load, kill a node
	@$(MAKE) --no-print-directory -j$(JOBS) all
	@demo=$$($(TOOLS)/run-dir --demo); $(call private_server,"$$demo/pg")
	@$(TOOLS)/demo start

demo-stop: ## end the demo's cloud, HAProxy too
	@$(TOOLS)/demo stop

help: ## this list
	@awk 'BEGIN { FS = ":.*## " } /^## / { print ""; print substr($$0, 4) } \
		/^[a-z][a-z0-9-]*:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

endif
