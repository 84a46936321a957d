/*
 * ingress_sql.c - SQL faces of what the ingress computes: HAProxy's statistics as rows, weights from shares.
 *
 * Only turns text and arrays into the plain structs of core and back. Called by _ingress_plan (SQL).
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/proxystat.h"
#include "core/shares.h"

#define OBSERVED_COLUMNS 14

static Datum
put_text(A67ProxyText text, bool *null)
{
	*null = text.len == 0;
	return *null ? (Datum) 0 : PointerGetDatum(cstring_to_text_with_len(text.text, (int) text.len));
}

static Datum
put_count(int64_t count)
{
	return Int64GetDatum(count);
}

static void
put_row(ReturnSetInfo *result, const A67ProxyReader *reader, const A67ProxyRow *row)
{
	const A67ProxyProcess *process = &reader->process;
	Datum values[OBSERVED_COLUMNS] = {0};
	bool nulls[OBSERVED_COLUMNS] = {false};
	bool server = row->kind == A67_PROXY_SERVER;
	int n = 0;

	values[n++] = PointerGetDatum(
		cstring_to_text(psprintf(INT64_FORMAT "." INT64_FORMAT, process->pid, process->started)));
	values[n++] = PointerGetDatum(cstring_to_text(process->description));
	values[n++] = BoolGetDatum(process->stopping);
	values[n] = put_text(row->backend, &nulls[n]);
	n++;
	values[n] = put_text(server ? row->server : (A67ProxyText){NULL, 0}, &nulls[n]);
	n++;
	values[n] = put_text(row->status, &nulls[n]);
	n++;
	values[n] = put_text(row->address, &nulls[n]);
	n++;
	values[n++] = put_count(row->weight);
	values[n++] = put_count(row->limit);
	values[n++] = put_count(row->sessions);
	values[n++] = put_count(row->queued);
	values[n++] = put_count(row->requests);
	values[n++] = put_count(server ? row->failures : row->refused);
	values[n++] = put_count(row->latency_ms);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

PG_FUNCTION_INFO_V1(a67_sql_ingress_observed);

/* _ingress_observed(output text) returns table (...); strict */
Datum
a67_sql_ingress_observed(PG_FUNCTION_ARGS)
{
	text *output = PG_GETARG_TEXT_PP(0);
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
	A67ProxyReader reader;
	A67ProxyRow row;

	InitMaterializedSRF(fcinfo, 0);
	a67_proxy_reader_init(&reader, VARDATA_ANY(output), VARSIZE_ANY_EXHDR(output));
	while (a67_proxy_next(&reader, &row))
	{
		CHECK_FOR_INTERRUPTS();
		put_row(result, &reader, &row);
	}
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(a67_sql_ingress_weights);

/* _ingress_weights(shares float8[]) returns integer[]; strict */
Datum
a67_sql_ingress_weights(PG_FUNCTION_ARGS)
{
	Datum *elements;
	bool *nulls;
	int count;
	double *shares;
	int *weights;
	Datum *values;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(0), FLOAT8OID, sizeof(float8), FLOAT8PASSBYVAL,
					  TYPALIGN_DOUBLE, &elements, &nulls, &count);
	shares = palloc(sizeof(*shares) * (count + 1));
	weights = palloc(sizeof(*weights) * (count + 1));
	values = palloc(sizeof(*values) * (count + 1));
	for (int i = 0; i < count; i++)
		shares[i] = nulls[i] ? 0 : DatumGetFloat8(elements[i]);
	a67_shares_round(shares, weights, (size_t) count);
	for (int i = 0; i < count; i++)
		values[i] = Int32GetDatum(weights[i]);
	PG_RETURN_ARRAYTYPE_P(
		construct_array(values, count, INT4OID, sizeof(int32), true, TYPALIGN_INT));
}
