# METADATA
# title: The policy's own conventions
# description: >-
#   Over `input.files[path]`, the syntax trees of the policy by their path inside it. A convention
#   stands here when breaking it lets something through that policy meant to stop, or hides why.
package lint

# Heads that every rule of a category shares; anything else in two files would be OR-ed silently.
shared_names := {"block", "escalate", "allow", "retry_after_seconds", "findings"}

outcomes := {"block", "escalate", "allow"}

violations contains violation(path, "a package outside the bundle's root `placet`") if {
	some path, _ in input.files
	package_path(path)[0] != "placet"
}

violations contains violation(path, "a package that is not its directory") if {
	some path in policy_files
	concat("/", package_path(path)) != directory(path)
}

violations contains violation(path, message) if {
	some [path, other] in same_package
	some name in (names(path) & names(other))
	not name in shared_names
	message := sprintf("`%s` is defined in %s too: OPA would OR the two", [name, other])
}

violations contains violation(path, message) if {
	some path in rule_files
	some head in heads(path)
	not constant_code(head, code(path))
	message := sprintf("the code of `%s` is not the constant \"%s\"", [head.name, code(path)])
}

violations contains violation(path, "a rule file without block, escalate or allow") if {
	some path in rule_files
	count(heads(path)) == 0
}

violations contains violation(path, "no METADATA with title and description on the rule") if {
	some path in rule_files
	not described(path)
}

# A new rule comes with one in the place of its condition and of its wording (tools/new_rule.py).
violations contains violation(path, "a TODO is left") if {
	some path, _ in input.files
	some text
	walk(input.files[path], [_, text])
	is_string(text)
	contains(text, "TODO")
}

# What holds an argument in a head makes the rule vanish when the argument is missing, and puts a
# stranger's words into a reason.
violations contains violation(path, "sprintf: messages are constants, and stand in METADATA") if {
	some path in rule_files
	some node
	walk(input.files[path].rules, [_, node])
	node.type == "var"
	node.value == "sprintf"
}

violations contains violation(path, message) if {
	some path in rule_files
	tests := count(test_names(test_file(path)))
	tests < 4
	message := sprintf("%d tests in %s; at least 4: fires, does not fire, odd field, missing data", [tests, test_file(path)])
}

# What an entity of the document has, whatever the tool calls it (rego/schemas/input.json). OPA's own check of
# fields knows only names that a schema spells out, and these are each tool's own.
entity_members := {"attributes", "id", "known", "matched", "type"}

violations contains violation(path, message) if {
	some path, tree in input.files
	some rule in tree.rules
	some [ref, at] in member_refs(rule)
	not ref[at].type in {"var", "ref", "call"}
	not ref[at].value in entity_members
	written := concat("", [sprintf("[%v]", [part.value]) | some i, part in ref; i > 0])
	message := sprintf("`%s%s`: an entity has no `%v`; it has %s", [
		ref[0].value,
		written,
		ref[at].value,
		concat(", ", sort(entity_members)),
	])
}

# The references in a rule that lead into an entity, each with the place in it of the entity's member.
member_refs(rule) := {[ref, at] |
	aliases := map_names(rule)
	entities := entity_names(rule, aliases)
	some ref in refs(rule)
	some at in (({3 | is_map(array.slice(ref, 0, 2), aliases)} | {2 | ref[0].value in aliases}) | {1 | ref[0].value in entities})
	count(ref) > at
}

refs(rule) := {node.value |
	some node
	walk(rule, [_, node])
	is_object(node)
	node.type == "ref"
}

# Names that a rule gives to all entities, and to one of them.
map_names(rule) := {name |
	some [name, value] in assigned(rule)
	is_map(value, set())
}

entity_names(rule, aliases) := {name |
	some [name, value] in assigned(rule)
	is_map(array.slice(value, 0, count(value) - 1), aliases)
} | {name |
	some [name, domain] in iterated(rule)
	is_map(domain, aliases)
}

assigned(rule) := {[node[1].value, node[2].value] |
	some node
	walk(rule, [_, node])
	is_array(node)
	count(node) == 3
	node[0].value[0].value in {"assign", "eq"}
	node[1].type == "var"
	node[2].type == "ref"
}

# The variable that takes each value of something in turn: `some name, value in domain`, `every value in domain`.
iterated(rule) := {[value.value, as_ref(domain)] |
	some node
	walk(rule, [_, node])
	[value, domain] := iteration(node)
	value.type == "var"
}

iteration(node) := [node.value, node.domain]

iteration(node) := [node[count(node) - 2], node[count(node) - 1]] if {
	is_array(node)
	node[0].type == "ref"
	node[0].value[0].value == "internal"
	node[0].value[1].value in {"member_2", "member_3"}
}

as_ref(term) := term.value if term.type == "ref"

as_ref(term) := [term] if term.type == "var"

is_map(ref, _) if {
	count(ref) == 2
	ref[0].value == "input"
	ref[1].value == "entities"
}

is_map(ref, aliases) if {
	count(ref) == 1
	ref[0].value in aliases
}

violation(path, message) := {"file": path, "message": message}

policy_files contains path if {
	some path, _ in input.files
	not endswith(path, "_test.rego")
}

rule_files contains path if {
	some path in policy_files
	startswith(path, "placet/rules/")
}

# Pairs of files of one package, each once.
same_package contains [path, other] if {
	some path, _ in input.files
	some other, _ in input.files
	path < other
	package_path(path) == package_path(other)
}

package_path(path) := [part.value | some i, part in input.files[path]["package"].path; i > 0]

directory(path) := concat("/", array.slice(split(path, "/"), 0, count(split(path, "/")) - 1))

# placet/rules/boundary/tool.rego is `boundary.tool`, a deeper file an impossible code.
code(path) := concat(".", array.slice(split(trim_suffix(path, ".rego"), "/"), 2, count(split(path, "/"))))

test_file(path) := concat("", [trim_suffix(path, ".rego"), "_test.rego"])

names(path) := {name |
	some rule in input.files[path].rules
	name := head_name(rule.head)
}

head_name(head) := head.ref[0].value

head_name(head) := head.name if not head.ref

heads(path) := [head |
	some rule in input.files[path].rules
	some head in chain(rule)
	head_name(head) in outcomes
]

# A rule and its `else` branches.
chain(rule) := [node.head |
	some node
	walk(rule, [_, node])
	is_object(node.head)
]

constant_code(head, wanted) if {
	head.key.type == "string"
	head.key.value == wanted
	not head.value
}

described(path) if {
	some rule in input.files[path].rules
	head_name(rule.head) in outcomes
	some annotation in rule.annotations
	annotation.title != ""
	annotation.description != ""
}

test_names(path) := {name |
	some name in names(path)
	startswith(name, "test_")
}
