//! Starts the balancer and the nodes of one machine as child processes and keeps them running.
