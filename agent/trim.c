/*
 * trim.c - trimming by dl_iterate_phdr and madvise.  See trim.h.
 *
 * Starting a TLS library touches 2 MB of code that is never run again.  Those pages are clean copies of
 * files: dropping them costs a page fault each when they are needed after all.  Segments that the
 * dynamic linker or the program writes to are left alone.
 */
#include "trim.h"

#include <link.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

/* Code that the linker had to change is not what the file holds. */
static bool
has_text_relocations(const struct dl_phdr_info *object)
{
	for (size_t i = 0; i < object->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];
		const ElfW(Dyn) * entry;

		if (header->p_type != PT_DYNAMIC)
			continue;
		entry = (const void *) (object->dlpi_addr + header->p_vaddr);
		for (; entry->d_tag != DT_NULL; entry++)
		{
			if (entry->d_tag == DT_TEXTREL ||
				(entry->d_tag == DT_FLAGS && (entry->d_un.d_val & DF_TEXTREL) != 0))
				return true;
		}
	}
	return false;
}

static int
trim_object(struct dl_phdr_info *object, size_t size, void *arg)
{
	uintptr_t page = (uintptr_t) sysconf(_SC_PAGESIZE);

	if (has_text_relocations(object))
		return 0;
	for (size_t i = 0; i < object->dlpi_phnum; i++)
	{
		const ElfW(Phdr) *header = &object->dlpi_phdr[i];
		uintptr_t start = object->dlpi_addr + header->p_vaddr;
		uintptr_t end = start + header->p_filesz;

		if (header->p_type != PT_LOAD || (header->p_flags & PF_W) != 0)
			continue;
		start &= ~(page - 1);
		end = (end + page - 1) & ~(page - 1);
		(void) madvise((void *) start, end - start, MADV_DONTNEED);
	}
	return 0;
}

void
a67_memory_trim(void)
{
	(void) dl_iterate_phdr(trim_object, NULL);
	(void) malloc_trim(0);
}
