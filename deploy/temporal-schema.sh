#!/bin/sh
# Creates Temporal's two databases on PostgreSQL, or brings their schemas up to date. Runs in the admin-tools image, with the
# password in SQL_PASSWORD.
set -eu

prepare() {
	tool="temporal-sql-tool --plugin postgres12 --ep $POSTGRES_SEEDS -p 5432 -u $POSTGRES_USER --db $1"
	$tool create
	$tool setup-schema -v 0.0
	$tool update-schema -d "/etc/temporal/schema/postgresql/v12/$2/versioned"
}

prepare temporal temporal
prepare temporal_visibility visibility
