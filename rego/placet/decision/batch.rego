package placet.decision

# METADATA
# title: Many decisions
# description: >-
#   The decision on each document of `input.items`, by the id it was sent under. Keyed by id, so
#   that an answer can never slide onto another document.
# schemas:
#   - input:
#       type: object
#       properties:
#         items:
#           type: object
batch[id] := verdict if {
	some id, document in input.items
	verdict := decision with input as document
}
