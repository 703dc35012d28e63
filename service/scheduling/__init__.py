"""When what is asked for is computed: bounded queues, deadlines, batches, and what ends when a client hangs up."""
