//! Goal: the simulator finds what it is for. Method: bugs planted in the product's code, one at a time; each must be found
//! within a stated number of seeds, and the same seeds without it find nothing (`seeds`).
