//! Real processes on one budget, killed by SIGKILL, against a server that stamps arrivals.
