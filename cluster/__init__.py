"""Many ranks. This package will hold what turns one Network into a job on many processes: the cost of tiles on a kind
of device, their balance over ranks, the routing of spikes within and between nodes, the plan of memory, traffic and
time that allocates nothing, and the launch under mpiexec or Slurm. It imports dtb; dtb never imports it.
"""
