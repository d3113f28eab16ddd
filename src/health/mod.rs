//! Rules, policy, hysteresis, sweep, doubt, folding.
