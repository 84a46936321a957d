/*
 * nodefsm_fixture.h - a health in one line, and one compared field by field.
 *
 * Included by the nodefsm tests.
 */
#ifndef NODEFSM_FIXTURE_H
#define NODEFSM_FIXTURE_H

#include "core/nodefsm.h"

#include "unit.h"

static A67NodeHealth
health(A67NodeStatus status, uint32_t failures, uint32_t goods)
{
	A67NodeHealth made = {status, failures, goods};

	return made;
}

static void
check_health(A67NodeHealth got, A67NodeStatus status, uint32_t failures, uint32_t goods, int line)
{
	unit_check_str(a67_node_status_name(got.status), a67_node_status_name(status), "status",
				   __FILE__, line);
	unit_check_uint(got.failures, failures, "failures", __FILE__, line);
	unit_check_uint(got.goods, goods, "goods", __FILE__, line);
}

#define CHECK_HEALTH(got, status, failures, goods) \
	check_health((got), A67_NODE_##status, (failures), (goods), __LINE__)

#endif /* NODEFSM_FIXTURE_H */
