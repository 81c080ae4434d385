//! Scripts for the swarm.
