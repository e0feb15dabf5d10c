#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Two ranks in network namespaces of their own, with a link between them that tc slows down to RATE and DELAY.
# Usage, as root: comm_link.sh BENCH_COMM NAME RATE DELAY [DENSITY [ROWS]], as in: comm_link.sh .../bench-comm g1 1gbit 0.1ms
# Ends with 77 where this machine lets nobody make namespaces or slow links.
set -euo pipefail
program=$1 name=$2 rate=$3 delay=$4
shift 4
a=slcomm-a b=slcomm-b
clean() {
	ip netns del $a 2>/dev/null || true
	ip netns del $b 2>/dev/null || true
	rm -rf "${work:-}"
}
trap clean EXIT
work=$(mktemp -d)
refuse() {
	echo "comm_link.sh: $1 is refused here: $(cat "$work/why")" >&2
	exit 77
}
for tool in ip tc mpirun; do
	command -v $tool >/dev/null || { echo "comm_link.sh: no $tool: run scripts/install-deps.sh" >&2; exit 77; }
done
clean
work=$(mktemp -d)
{ ip netns add $a && ip netns add $b; } 2>"$work/why" || refuse "a network namespace"
ip link add sla netns $a type veth peer name slb netns $b 2>"$work/why" || refuse "a pair of interfaces"
ip -n $a addr add 10.213.77.1/24 dev sla
ip -n $b addr add 10.213.77.2/24 dev slb
for side in "$a sla" "$b slb"; do
	read -r space device <<<"$side"
	ip -n $space link set lo up
	ip -n $space link set $device up
	# A queue long enough for what a delayed link holds: packets are slowed down, not dropped.
	# Where the kernel lacks netem the delay is left out.
	ip netns exec $space tc qdisc add dev $device root netem rate "$rate" delay "$delay" limit 100000 2>"$work/why" ||
		ip netns exec $space tc qdisc add dev $device root tbf rate "$rate" burst 256kb latency 2s 2>"$work/why" ||
		refuse "a slower link"
done
ip netns exec $a tc qdisc show dev sla | sed 's/^/# /'
# mpirun in one namespace starts the other's daemon by this instead of ssh.
cat >"$work/agent" <<AGENT
#!/bin/bash
shift
exec ip netns exec $b sh -c "\$*"
AGENT
chmod +x "$work/agent"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_hwloc_base_binding_policy=none
unset OMPI_MCA_btl
# Sums in a ring: both directions of a link at once, which Open MPI's default for two ranks leaves half idle.
export OMPI_MCA_coll_libnbc_iallreduce_algorithm=${OMPI_MCA_coll_libnbc_iallreduce_algorithm:-1}
sent() { ip netns exec $a cat /sys/class/net/sla/statistics/tx_bytes; }
before=$(sent)
ip netns exec $a mpirun -n 2 --host 10.213.77.1:1,10.213.77.2:1 --mca plm_rsh_agent "$work/agent" --mca btl self,tcp \
	--mca btl_tcp_if_include 10.213.77.0/24 --mca oob_tcp_if_include 10.213.77.0/24 --mca pml ob1 \
	-x SPARSELAYER_CALIBRATION=off "$program" "$name" "$@"
echo "# $name: $(($(sent) - before)) bytes went over the link from rank 0"
