"""What a prompt shows of an item beside its reviews; what the data do not have is left out."""

from r4r.rows import Case


def metadata(case: Case) -> str:
    """Title and category of a target's item, its categories and its description, a line each."""
    lines = [f"Title: {case.title}", f"Category: {case.category}"]
    lines += [f"Categories: {case.categories}"] * bool(case.categories)
    lines += [f"Description: {case.description}"] * bool(case.description)
    return "\n".join(lines)


def description_section(case: Case) -> str:
    """The section with the description of a target's item, ready to stand before another section; empty without one."""
    return f"### Item Description ###\n{case.description}\n\n" if case.description else ""
