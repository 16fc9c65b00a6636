#!/bin/bash
{% for option in options %}
#SBATCH {{ option }}
{% endfor %}
# Written by dtb submit. Shortly before its time is up the run keeps its state and ends with 75; then this job queues
# itself again, and goes on from there, until it is done, or has come no further twice.
set -u
{% for line in setup %}
{{ line }}
{% endfor %}
{% if seed is none %}
run={{ run }} stalled={{ folder }}/stalled
{% else %}
seed=$(({{ seed }} + SLURM_ARRAY_TASK_ID))
run={{ run }}/seed-$seed stalled={{ folder }}/stalled-$seed
{% endif %}
[ -n "${SLURM_CPUS_PER_TASK:-}" ] && export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK    # since Slurm 22.05
export SLURM_WAIT=30    # s after its first task ends, srun ends the others: without it they wait for a lost one
kept() { ls "$run/checkpoints" 2>/dev/null | tail -n 1; }    # the newest checkpoint, named for its step
before=$(kept) how= step= late= cancelled=
[ -n "$before" ] || [ "${SLURM_RESTART_COUNT:-0}" != 0 ] && how=--resume
trap 'late=yes; kill -USR2 $step 2>/dev/null' USR2
trap 'cancelled=yes; kill -TERM $step 2>/dev/null' TERM
srun --mpi={{ mpi }} {{ command }} run {{ config }} -o "$run" {{ arguments }}$how &
step=$!
while kill -0 $step 2>/dev/null; do wait $step; done    # a signal ends wait, not the run
wait $step
code=$?
[ -n "$late" ] && [ $code -gt 128 ] && code=75    # the signal came before the run could keep anything
[ $code = 75 ] && [ -z "$cancelled" ] || exit $code
if [ "$(kept)" != "$before" ]; then rm -f "$stalled"; else echo "$SLURM_JOB_ID" >> "$stalled"; fi
if [ -e "$stalled" ] && [ "$(wc -l < "$stalled")" -ge 2 ]; then
    echo "error: two attempts of this job came no further. Give it more --time, or lower checkpoint_every." >&2
    exit 75
fi
scontrol requeue "$SLURM_JOB_ID" || echo "error: no requeue here. Submit it again:" sbatch {{ script }} >&2
exit 75
