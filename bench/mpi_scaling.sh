#!/bin/bash
# How training scales over a network: network namespaces of this machine stand
# for hosts, joined by a switch whose links have a bandwidth and a delay (tc).
#   bench/mpi_scaling.sh --nres build/release/nres -m MODEL --new FILE --old FILE [options] [-- settings of nres extend]
#     --ranks "1 2 4"    numbers of ranks, a host each; 1 is measured always
#     --mbit 1000        bandwidth of every link, each way
#     --delay-us 100     delay of every link, each way (needs the kernel's netem)
#     --rows 8           rows of a step a rank: the batch grows with the ranks
#     --steps 12         the first third isn't counted
# Needs root, iproute2 and Open MPI; leaves nothing behind. Prints tokens a second
# (medians of steps), and a model of a step that is held against them and then
# says what 16 and 256 ranks would do:
#
#   step = compute + max(0, G / bandwidth - hidden) + V / bandwidth + rounds
#     compute  the step of one rank; hidden: the backward pass of its last
#              micro-batch, half of a micro-batch's time, in which G travels
#     G, V     bytes of gradients and of weights that a rank sends: each
#              (N - 1) / N of all of them
#     rounds   2 (ceil(log2 N) + 1) delays of two links: losses, agreement, first bytes
#
# On a machine with fewer cores than ranks the ranks share cores, so that compute
# grows: such lines are marked, and compare with the model's "shared" column.
set -euo pipefail

nres= model= new= old= counts="2 4" mbit=1000 delay=100 rows=8 steps=12
while [ $# -gt 0 ]; do
  case $1 in
  --nres) nres=$(realpath "$2") ;;
  -m) model=$(realpath "$2") ;;
  --new) new=$(realpath "$2") ;;
  --old) old=$(realpath "$2") ;;
  --ranks) counts=$(tr ' ' '\n' <<<"$2" | grep -vx 1 || true) ;;
  --mbit) mbit=$2 ;;
  --delay-us) delay=$2 ;;
  --rows) rows=$2 ;;
  --steps) steps=$2 ;;
  --)
    shift
    break
    ;;
  *)
    sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
  esac
  shift 2
done
refuse() {
  echo "mpi_scaling.sh: $*" >&2
  exit 1
}
if [ -z "$nres" ] || [ -z "$model" ] || [ -z "$new" ] || [ -z "$old" ]; then refuse "--nres, -m, --new and --old are needed"; fi
[ "$(id -u)" -eq 0 ] || refuse "needs root to make network namespaces"
for tool in ip tc mpirun unshare; do
  command -v $tool >/dev/null || refuse "$tool is missing (Debian: iproute2, openmpi-bin, util-linux)"
done
[ -e "$(dirname "$nres")/libnres_mpi.so" ] || refuse "libnres_mpi.so isn't beside $nres (-DNRES_MPI=ON)"

folder=$(mktemp -d) mark=nres$$ most=1 launcher=
for n in $counts; do [ "$n" -le $most ] || most=$n; done
remove() {
  if [ -n "$launcher" ]; then
    kill "$launcher" 2>/dev/null || true # it ends its ranks
    wait "$launcher" 2>/dev/null || true
  fi
  for i in $(seq 0 $most); do ip netns del "$mark-$i" 2>/dev/null || true; done
  rm -rf "$folder"
}
trap remove EXIT
trap 'exit 130' INT TERM
ip netns add "$mark-0" 2>"$folder/why" || refuse "network namespaces can't be made here: $(head -1 "$folder/why")"

# ---- hosts: namespaces 1 .. most, each with one link to the switch in namespace 0 ----
address() { echo "10.77.0.$1"; }
# slow NAMESPACE LINK: what leaves through it is held to the bandwidth, and comes later.
slow() {
  local below=root
  if $has_netem; then
    ip netns exec "$1" tc qdisc add dev "$2" root handle 1: netem delay "${delay}us" limit 100000
    below="parent 1:1"
  fi
  # shellcheck disable=SC2086 # words
  ip netns exec "$1" tc qdisc add dev "$2" $below handle 2: tbf rate "${mbit}mbit" burst 256kb latency 200ms
}
ip netns exec "$mark-0" ip link add switch type bridge
ip netns exec "$mark-0" ip link set switch up
has_netem=false
if ip netns exec "$mark-0" tc qdisc add dev lo root netem delay 1us 2>/dev/null; then
  ip netns exec "$mark-0" tc qdisc del dev lo root
  has_netem=true
fi
for i in $(seq "$most"); do
  ip netns add "$mark-$i"
  ip netns exec "$mark-0" ip link add "to$i" type veth peer name eth0 netns "$mark-$i"
  ip netns exec "$mark-0" ip link set "to$i" master switch up
  ip netns exec "$mark-$i" ip addr add "$(address "$i")/24" dev eth0
  ip netns exec "$mark-$i" ip link set lo up
  ip netns exec "$mark-$i" ip link set eth0 up
  slow "$mark-$i" eth0
done

# What mpirun calls instead of ssh: HOST COMMAND...
cat >"$folder/agent" <<S
#!/bin/sh
number=\${1##*.}
shift
exec ip netns exec $mark-\$number unshare --uts sh -c "hostname host\$number; \$*"
S
chmod +x "$folder/agent"

# ---- measuring ----
settings=("$@")
# train RANKS FOLDER
train() {
  local hosts code=0
  hosts=$(for i in $(seq "$1"); do printf '%s:1,' "$(address "$i")"; done)
  # In the background, so that a signal doesn't wait for it; in a session of its own, as mpirun ends without its ranks
  # when two signals reach it.
  setsid ip netns exec "$mark-1" unshare --uts sh -c 'hostname host1; exec "$@"' sh \
    mpirun --allow-run-as-root -np "$1" --host "${hosts%,}" --bind-to none --map-by node \
    --mca plm_rsh_agent "$folder/agent" --mca btl self,tcp --mca btl_tcp_if_include 10.77.0.0/24 \
    --mca oob_tcp_if_include 10.77.0.0/24 --mca orte_keep_fqdn_hostnames 1 -x XDG_CACHE_HOME \
    "$nres" extend -m "$model" --new "$new" --old "$old" -o "$2" -q --threads 1 --steps "$steps" --warmup-steps 1 \
    --eval-steps 0 --validation-share 0 --save-every 1000000000 --batch-size $((rows * $1)) "${settings[@]}" >"$folder/out" 2>&1 &
  launcher=$!
  wait $launcher || code=$?
  launcher=
  [ $code -eq 0 ] || { tail -20 "$folder/out" >&2; refuse "training with $1 ranks failed"; }
}
# middle RUN KEY: the median over the counted steps.
middle() {
  sed -n "s/.*\"kind\": \"step\", \"step\": \([0-9]*\),.*\"$2\": \([^,}]*\).*/\1 \2/p" "$1/metrics.jsonl" |
    awk -v from=$((steps / 3)) '$1 > from { print $2 }' | sort -g | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}

echo "links of $mbit Mbit/s, $($has_netem && echo "$delay us each way" || echo "no delay added: this kernel has no netem"); $(nproc) cores; $rows rows a rank"
train 1 "$folder/1" # tokenises too
rm -rf "$folder/1"
train 1 "$folder/1"
one=$(middle "$folder/1" tokens_per_second)
setting() { sed -n "s/.*\"$2\": \([0-9]*\).*/\1/p" "$1/config.json" | head -1; }
weights=$(sed -n 's/.*"weights": \([0-9]*\).*/\1/p' "$folder/1/extension_config.json" | head -1)
tokens=$(($(setting "$folder/1" context) * rows))
passes=$((rows / $(setting "$folder/1" micro_batch_size)))
wire=4
! grep -q '"gradient_exchange": "bf16"' "$folder/1/config.json" || wire=2

printf '%6s %12s %10s %14s %14s %12s %12s\n' ranks tokens/s speedup "MB sent/step" "s waited/step" "model t/s" "shared t/s"
# line RANKS MEASURED BYTES WAITED
line() {
  awk -v N="$1" -v measured="$2" -v bytes="$3" -v waited="$4" -v one="$one" -v W="$weights" -v tokens="$tokens" \
    -v passes="$passes" -v wire="$wire" -v rate="$(awk "BEGIN { print $mbit * 1e6 / 8 }")" -v cores="$(nproc)" \
    -v delay="$($has_netem && echo "$delay" || echo 0)" '
    function model(compute) {
      share = (N - 1) / N * W
      rest = share * wire / rate - compute / passes / 2
      log2 = 0
      for (k = 1; k < N; k *= 2) log2++
      return N * tokens / (compute + (rest > 0 ? rest : 0) + share * 4 / rate + (N > 1 ? 2 * (log2 + 1) * 2e-6 * delay : 0))
    }
    BEGIN {
      compute = tokens / one
      sent = (N - 1) / N * W * (4 + wire)
      shared = N > cores && measured != "-" ? sprintf("%.0f", model(compute * N / cores)) : "-"
      printf "%6d %12s %10s %14.2f %14s %12.0f %12s\n", N, measured == "-" ? "-" : sprintf("%.0f", measured),
        measured == "-" ? "-" : sprintf("%.2f", measured / one), (bytes == "-" ? sent : bytes) / 1e6,
        waited == "-" ? "-" : sprintf("%.3f", waited), model(compute), shared
    }'
}
line 1 "$one" 0 0
for n in $counts; do
  train "$n" "$folder/$n"
  line "$n" "$(middle "$folder/$n" tokens_per_second)" "$(middle "$folder/$n" bytes_sent)" "$(middle "$folder/$n" exchange_seconds)"
done
for n in 16 256; do line $n - - -; done
