"""Judges roots and inclusion paths with pymerkle, an implementation of RFC 9162 that shares no code with ours.

Standard input: the leaves of a tree, one hexadecimal line each; an empty line; then one line for each proof: position, size of the
tree, root, and the path's hashes, separated by spaces. Prints how many proofs hold; the first that does not ends it.
"""

import sys

from pymerkle import InmemoryTree


def main():
    tree = InmemoryTree(algorithm="sha256")
    lines = sys.stdin.read().split("\n")
    end = lines.index("")
    for leaf in lines[:end]:
        tree.append_entry(bytes.fromhex(leaf))
    judged = 0
    for line in filter(None, lines[end + 1 :]):
        position, size, root, *path = line.split(" ")
        position, size = int(position), int(size)
        if tree.get_state(size).hex() != root:
            sys.exit(f"size {size}: the root is {tree.get_state(size).hex()}, not {root}")
        # pymerkle counts leaves from 1, and its path holds the leaf itself.
        proof = tree.prove_inclusion(position + 1, size)
        expected = [node.hex() for node in proof.path]
        leaf = tree.get_leaf(position + 1).hex()
        if size > 1:
            expected.remove(leaf)
        elif path:
            sys.exit("a tree of one leaf has no path")
        if sorted(path) != sorted(expected) and size > 1:
            sys.exit(f"leaf {position} of {size}: the path is {expected}, not {path}")
        judged += 1
    print(judged)


main()
